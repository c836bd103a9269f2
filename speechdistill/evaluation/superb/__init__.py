"""SUPERB's ten tasks (Yang et al., arXiv:2105.01051): s3prl trains and evaluates, the data and the folders are ours."""
