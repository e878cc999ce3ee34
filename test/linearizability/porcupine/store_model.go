package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/anishathalye/porcupine"
)

// request is a call with all that the model needs to know of it.
type request struct {
	call
	// conditional is true where the call expects something; wanted is nil for: no such key.
	conditional bool
	wanted      *int64
	// version is what clients were told of the value that is put; nil: nobody ever saw the value.
	version *int64
}

// cell is a key that is there. Values that nobody saw are all alike, and have no version.
type cell struct {
	key, value string
	seen       bool
	version    int64
}

// store is one copy of the keys of a part, sorted, and the newest version that was given in it.
type store struct {
	cells  []cell
	newest int64
}

// storeModel is the store as clients may think of it: one copy, one request at a time, versions
// given in that order.
var storeModel = porcupine.Model{
	Init: func() any { return store{newest: -1} },
	Step: func(before, input, output any) (bool, any) {
		return step(before.(store), input.(request), output.(outcome))
	},
	Equal: func(one, other any) bool {
		a, b := one.(store), other.(store)
		return a.newest == b.newest && slices.Equal(a.cells, b.cells)
	},
}

func requestOf(one operation, versions map[string]int64) (request, error) {
	asked := request{call: one.Call, conditional: one.Call.Expected != nil}
	if asked.conditional {
		if err := json.Unmarshal(one.Call.Expected, &asked.wanted); err != nil {
			return request{}, fmt.Errorf("what %s %s expects: %w", asked.Kind, asked.Key, err)
		}
	}
	if version, ok := versions[asked.Value]; ok && asked.Kind == "put" {
		asked.version = &version
	}
	return asked, nil
}

// versionsOf gives the version that clients were told of each value; false: they were told two of
// one value, or one of two values.
func versionsOf(part []operation) (map[string]int64, bool) {
	versions, values := map[string]int64{}, map[int64]string{}
	agrees := true
	tell := func(value string, version int64) {
		known, isKnown := versions[value]
		other, isOther := values[version]
		agrees = agrees && (!isKnown || known == version) && (!isOther || other == value)
		versions[value], values[version] = version, value
	}
	for _, one := range part {
		switch one.Outcome.Kind {
		case "written":
			tell(one.Call.Value, one.Outcome.VersionID)
		case "found":
			tell(one.Outcome.Value, one.Outcome.VersionID)
		case "pairs":
			for _, pair := range one.Outcome.Pairs {
				tell(pair.Value, pair.VersionID)
			}
		}
	}
	return versions, agrees
}

// step tells whether a request can come next with this outcome, and what is there afterwards.
func step(before store, asked request, got outcome) (bool, store) {
	switch asked.Kind {
	case "get":
		return stepGet(before, asked, got)
	case "scan":
		return stepScan(before, asked, got)
	case "put", "delete":
		return stepWrite(before, asked, got)
	default:
		panic("no such call: " + asked.Kind)
	}
}

func stepGet(before store, asked request, got outcome) (bool, store) {
	at, there := before.find(asked.Key)
	switch got.Kind {
	case "unknown":
		return true, before
	case "absent":
		return !there, before
	default:
		return there && before.cells[at].shows(got.Value, got.VersionID), before
	}
}

func stepScan(before store, asked request, got outcome) (bool, store) {
	if got.Kind == "unknown" {
		return true, before
	}
	seen := 0
	for _, one := range before.cells {
		if one.key < asked.Start || one.key >= asked.End {
			continue
		}
		seen++
		shown := slices.ContainsFunc(got.Pairs, func(pair seenPair) bool {
			return pair.Key == one.key && one.shows(pair.Value, pair.VersionID)
		})
		if !shown {
			return false, before
		}
	}
	return seen == len(got.Pairs), before
}

func stepWrite(before store, asked request, got outcome) (bool, store) {
	at, there := before.find(asked.Key)
	allowed := !asked.conditional
	if asked.conditional && asked.wanted == nil {
		allowed = !there
	} else if asked.conditional {
		allowed = there && before.cells[at].seen && before.cells[at].version == *asked.wanted
	}
	if got.Kind == "refused" {
		return !allowed, before
	}
	if !allowed {
		return got.Kind == "unknown", before
	}
	if asked.Kind == "delete" {
		if !there {
			return got.Kind == "absent" || got.Kind == "unknown", before
		}
		if got.Kind == "absent" {
			return false, before
		}
		cells := slices.Delete(slices.Clone(before.cells), at, at+1)
		return true, store{cells: cells, newest: before.newest}
	}
	if got.Kind != "written" && got.Kind != "unknown" {
		return false, before
	}
	after := store{cells: slices.Clone(before.cells), newest: before.newest}
	made := cell{key: asked.Key}
	if asked.version != nil {
		made = cell{key: asked.Key, value: asked.Value, seen: true, version: *asked.version}
		after.newest = made.version
		if made.version <= before.newest {
			return false, before
		}
	}
	if there {
		after.cells[at] = made
	} else {
		after.cells = slices.Insert(after.cells, at, made)
	}
	return true, after
}

func (s store) find(key string) (int, bool) {
	return slices.BinarySearchFunc(s.cells, key, func(one cell, key string) int {
		return strings.Compare(one.key, key)
	})
}

func (c cell) shows(value string, version int64) bool {
	return c.seen && c.value == value && c.version == version
}
