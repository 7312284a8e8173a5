"""The parts of `pipeline.enhancer`: with it the only room of the pipeline that meets `operators`."""
