echo hello >story.txt
$TONNE inspect story.txt
