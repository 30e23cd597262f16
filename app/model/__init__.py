"""What an answer is. Pure and synchronous."""
