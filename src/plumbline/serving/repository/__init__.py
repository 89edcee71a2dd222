"""Model repository: versions with digests behind one port, in a folder, in memory, or over loopback HTTP."""
