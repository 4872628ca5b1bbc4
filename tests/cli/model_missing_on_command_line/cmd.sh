$TONNE inspect
