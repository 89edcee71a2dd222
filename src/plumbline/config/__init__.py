"""Files and environment into each layer's frozen options. The only package that reads the environment."""
