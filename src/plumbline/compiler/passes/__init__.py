"""Graph rewrites. One file each, named by a verb phrase; the graph is valid before and after every one."""
