"""The rules of Limen (`transforms.rules`) and those rules on a stream: one stage a file."""
