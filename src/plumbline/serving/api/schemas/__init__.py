"""Documents of the native API: what comes in is strict, what goes out is declared."""
