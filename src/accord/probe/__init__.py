"""A live endpoint is asked every wording, and scored: how inconsistent is it, and where from?"""
