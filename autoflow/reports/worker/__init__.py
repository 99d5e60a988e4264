"""A program that makes the pictures of a report; run as ``python FOLDER``, never imported."""
