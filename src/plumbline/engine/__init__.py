"""L3 engine: requests on executables.
Sees `execution` and below; reaches the compiler only through what is given to it.
"""
