$TONNE doctor no/such/model.gguf --threads 1
