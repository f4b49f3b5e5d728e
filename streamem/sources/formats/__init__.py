"""Formats whose own libraries read them: tables of lakes, lazy queries, files of arrays. One format a file."""
