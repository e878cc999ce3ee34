// Judges histories with porcupine, so that the checker beside this folder has another one's answer
// to compare with. Each line of the input is one history, as JSON; each line of the output is one
// verdict: linearizable, violation or undecided.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/anishathalye/porcupine"
)

// lineBytesMax bounds one history: tens of thousands of operations.
const lineBytesMax = 64 << 20

// timeout bounds the search through one history.
const timeout = 60 * time.Second

// operation is one request, as history.ts has it; without returnedAt nobody was told its outcome.
type operation struct {
	Call       call     `json:"call"`
	Outcome    outcome  `json:"outcome"`
	CalledAt   float64  `json:"calledAt"`
	ReturnedAt *float64 `json:"returnedAt"`
}

type call struct {
	Kind  string `json:"kind"`
	Key   string `json:"key"`
	Value string `json:"value"`
	// Expected is absent where a write has no condition, null where it wants no such key.
	Expected json.RawMessage `json:"expected"`
	Start    string          `json:"start"`
	End      string          `json:"end"`
}

type outcome struct {
	Kind      string     `json:"kind"`
	Value     string     `json:"value"`
	VersionID int64      `json:"versionId"`
	Pairs     []seenPair `json:"pairs"`
}

type seenPair struct {
	Key       string `json:"key"`
	Value     string `json:"value"`
	VersionID int64  `json:"versionId"`
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, lineBytesMax)
	for lines.Scan() {
		var history []operation
		if err := json.Unmarshal(lines.Bytes(), &history); err != nil {
			fail(err)
		}
		verdict, err := judge(history)
		if err != nil {
			fail(err)
		}
		fmt.Println(verdict)
	}
	if err := lines.Err(); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func judge(history []operation) (string, error) {
	var parts [][]porcupine.Operation
	for _, part := range partition(history) {
		versions, ok := versionsOf(part)
		if !ok {
			return "violation", nil
		}
		requests := make([]porcupine.Operation, 0, len(part))
		for client, one := range part {
			asked, err := requestOf(one, versions)
			if err != nil {
				return "", err
			}
			requests = append(requests, porcupine.Operation{
				ClientId: client,
				Input:    asked,
				Call:     ordered(one.CalledAt),
				Output:   one.Outcome,
				Return:   returnOf(one),
			})
		}
		parts = append(parts, requests)
	}
	var all []porcupine.Operation
	for _, part := range parts {
		all = append(all, part...)
	}
	model := storeModel
	model.Partition = func([]porcupine.Operation) [][]porcupine.Operation { return parts }
	switch porcupine.CheckOperationsTimeout(model, all, timeout) {
	case porcupine.Ok:
		return "linearizable", nil
	case porcupine.Illegal:
		return "violation", nil
	default:
		return "undecided", nil
	}
}

// returnOf puts what never returned behind everything: there it may take effect as if it never did.
func returnOf(one operation) int64 {
	if one.ReturnedAt == nil {
		return math.MaxInt64
	}
	return ordered(*one.ReturnedAt)
}

// ordered gives an integer for a time that is not negative, in the order of the times.
func ordered(at float64) int64 {
	return int64(math.Float64bits(at))
}
