$TONNE help chat
