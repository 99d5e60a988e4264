"""A program that makes the pictures of a report; it is run as ``python FOLDER``, and is imported by nothing."""
