"""OpenNebula's driver protocol: argv, stdin, reporting, XML documents, XML-RPC."""
