"""What of the CSV log still has to be sent to the store."""
