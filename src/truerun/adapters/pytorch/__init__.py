"""What runs inside the training process: it captures and hands over; it decides nothing."""
