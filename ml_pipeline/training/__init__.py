"""From rows to a challenger: algorithms, heads, the online model, strategies, backtest."""
