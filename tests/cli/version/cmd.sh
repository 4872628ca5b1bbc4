$TONNE --version
