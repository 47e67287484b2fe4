module serinus.dev/bed/pause

go 1.26
