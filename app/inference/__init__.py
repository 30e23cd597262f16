"""When and where a picture is read: threads, batches, deadlines, memory."""
