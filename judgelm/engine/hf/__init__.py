"""Models of transformers as engines; all that needs torch is imported from `judgelm.engine.hf.engine`."""
