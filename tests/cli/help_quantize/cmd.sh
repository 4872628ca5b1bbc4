$TONNE quantize --help
