package main

// partition splits a history into parts that can be judged apart: by key, save that keys within one
// scan stay together. A scan of no key that anybody named says nothing and is left out.
func partition(history []operation) [][]operation {
	var keys []string
	group := map[string]int{}
	name := func(key string) {
		if _, known := group[key]; !known {
			group[key] = len(keys)
			keys = append(keys, key)
		}
	}
	for _, one := range history {
		if one.Call.Kind != "scan" {
			name(one.Call.Key)
		}
		for _, pair := range one.Outcome.Pairs {
			name(pair.Key)
		}
	}
	first := make([]string, len(history))
	for at, one := range history {
		first[at] = one.Call.Key
		if one.Call.Kind != "scan" {
			continue
		}
		within := inRange(keys, one.Call)
		if len(within) > 0 {
			first[at] = within[0]
			join(group, within)
		}
	}
	byGroup := map[int][]operation{}
	for at, one := range history {
		if to, known := group[first[at]]; known {
			byGroup[to] = append(byGroup[to], one)
		}
	}
	parts := make([][]operation, 0, len(byGroup))
	for _, part := range byGroup {
		parts = append(parts, part)
	}
	return parts
}

func inRange(keys []string, asked call) []string {
	var within []string
	for _, key := range keys {
		if key >= asked.Start && key < asked.End {
			within = append(within, key)
		}
	}
	return within
}

// join gives all keys of the groups that these are in one and the same group.
func join(group map[string]int, within []string) {
	into := group[within[0]]
	for _, key := range within[1:] {
		from := group[key]
		if from == into {
			continue
		}
		for other, at := range group {
			if at == from {
				group[other] = into
			}
		}
	}
}
