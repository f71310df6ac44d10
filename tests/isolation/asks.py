"""What a host is asked: each uses hotbed.Engine as any program would, and gives plain data."""
from __future__ import annotations
import warnings, glob, os, tempfile, time
from typing import Any
from hotbed import Engine, Limits
from hotbed.engine.confinement import Confinement
from hotbed.errors import HotbedError

def explore() -> Any:
    out: dict[str, Any] = {}
    t=time.time()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with Engine() as engine:
                out["start"]=time.time()-t
                for name, options in (("run", {}), ("again", {}), ("strict", {"isolation": "strict"}), ("net", {"limits": Limits(network=["example.org:443"])})):
                    t=time.time()
                    try:
                        r = engine.run("import os\nresult=[40+2, os.getuid(), os.getpid(), os.getcwd()]", **options)
                        out[name] = [str(r.status), r.value, r.error and r.error.message, " ".join(r.isolation), time.time()-t]
                    except HotbedError as error:
                        out[name] = repr(error), time.time()-t
                out["failures"] = {str(k): v for k,v in engine.dispatcher.trials(engine.environment, Confinement()).failures.items()}
                out["groups"] = repr(engine.dispatcher.groups)
        except BaseException as e:
            out["exc"]=repr(e)
    out["left"] = glob.glob(tempfile.gettempdir() + "/hotbed*")
    out["warnings"] = [str(one.message) for one in caught]
    return out

def neigh() -> Any:
    import threading, json
    out={}
    with Engine() as engine:
        told=threading.Event(); lines=[]
        def heard(t):
            lines.append(t); told.set()
        th=threading.Thread(target=lambda: out.__setitem__("a", str(engine.run("""
import os, signal, socket
open('secret','w').write('s3')
try:
    s=socket.socket(socket.AF_UNIX); s.bind('sock'); s.listen()
except OSError: pass
print(os.getcwd(), os.getpid(), flush=True)
signal.pause()
""", on_stdout=heard, id="a").status)))
        th.start()
        told.wait(20)
        d,p=lines[0].split()
        out["tier"]=engine.run("""
import os, socket
def tried(f):
    try: return repr(f())
    except OSError as e: return repr(e)
result={'cwd':os.getcwd(),'list':tried(lambda: os.listdir(d)),'read':tried(lambda: open(d+'/secret').read()),'write':tried(lambda: open(d+'/x','w')),
'unlink':tried(lambda: os.unlink(d+'/secret')),'chmod':tried(lambda: os.chmod(d,0o777)), 'kill':tried(lambda: os.kill(p,0)), 'ps':tried(lambda: os.listdir('/proc')), 'environ':tried(lambda: open(f'/proc/{p}/environ').read()),
'mem':tried(lambda: open(f'/proc/{p}/mem')), 'fd':tried(lambda: os.listdir(f'/proc/{p}/fd')), 'conn':tried(lambda: socket.socket(socket.AF_UNIX).connect(d+'/sock')),
'cwdlink':tried(lambda: os.readlink(f'/proc/{p}/cwd')), 'cmd':tried(lambda: open(f'/proc/{p}/cmdline').read()), 'stat':tried(lambda: os.stat(d)), 'box': tried(lambda: os.listdir('/home/box')), 'prlimit': tried(lambda: __import__('resource').prlimit(p, 0, (1,1))),'renice': tried(lambda: os.setpriority(0, p, 19)), 'aff': tried(lambda: os.sched_setaffinity(p, {0})),
'oom': tried(lambda: open(f'/proc/{p}/oom_score_adj','w').write('1000')), 'env':dict(os.environ), 'flock': tried(lambda: __import__('fcntl').flock(open('/usr/bin/env'), 2))
}
""", inputs={"d":d,"p":int(p)}).value
        engine.cancel("a"); th.join()
    return out
