"""Several machines: hosts in network namespaces, a cluster that `ray up` brings up on them, and what befalls it."""
