"""Backups: a folder of files with a manifest that holds the digest of each."""
