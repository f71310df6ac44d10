"""What confines a process: namespaces, a root of its own, Landlock, capabilities, system calls."""
