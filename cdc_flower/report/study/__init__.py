"""The page of a study of thin links."""
