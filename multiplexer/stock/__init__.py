"""What is installed ready-made: the stock filters."""

from .filters import stock_filters, stock_text

__all__ = ["stock_filters", "stock_text"]
