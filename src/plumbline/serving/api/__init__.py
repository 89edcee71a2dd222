"""The native API under `/api/v1` and the event socket `/ws`: routes over ports, and nothing behind them."""
