"""What may happen: the vocabulary, one declaration per action, and the pipeline that decides and carries out."""
