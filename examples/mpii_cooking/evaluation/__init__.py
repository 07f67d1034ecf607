"""What trained networks say about test clips, and how sure that is."""
