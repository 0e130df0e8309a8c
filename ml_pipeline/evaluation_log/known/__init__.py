"""What a load of the log brings: its files, its report, and rows beside those not seen yet."""
