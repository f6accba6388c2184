"""Files and data: FASTA, the bundled examples, and safe writing of files."""
