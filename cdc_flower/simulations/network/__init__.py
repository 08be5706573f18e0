"""What lies between a device and the cloud, in virtual time: traces, links, shared cells, and cloud workers."""
