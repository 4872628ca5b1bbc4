$TONNE inspect -h
