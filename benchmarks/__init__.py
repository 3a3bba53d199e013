"""What a relayed packet costs: this server and what one would run instead. `bin/bench` runs it."""
