"""Motion between pictures: DIS flow, where it can be trusted, warps and chains."""
