"""Issues the development PKI: what to issue (plan, pure), how (authority, cryptography) and where (write, files)."""
