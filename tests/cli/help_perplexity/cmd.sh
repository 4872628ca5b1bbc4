$TONNE perplexity --help
