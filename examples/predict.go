// Sends pictures to the service: go run examples/predict.go FILE...
// Needs only Go. DIGITS_URL is the service's address.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
)

type answer struct {
	Digit     int
	Accepted  bool
	Rejection *struct{ Reason string }
	Detail    string // of an error
}

func predict(url string, picture []byte) (answer, error) {
	var found answer
	response, err := http.Post(url+"/predict", "application/octet-stream", bytes.NewReader(picture))
	if err != nil {
		return found, err
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&found); err != nil {
		return found, err
	}
	if response.StatusCode != http.StatusOK {
		return found, fmt.Errorf("%s", found.Detail)
	}
	return found, nil
}

func main() {
	url := os.Getenv("DIGITS_URL")
	if url == "" {
		url = "http://localhost:8000"
	}
	url = strings.TrimSuffix(url, "/")
	for _, name := range os.Args[1:] {
		picture, err := os.ReadFile(name)
		var found answer
		if err == nil {
			found, err = predict(url, picture)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			os.Exit(1)
		}
		fmt.Printf("%s: %d", name, found.Digit)
		if !found.Accepted {
			fmt.Printf(" (not accepted: %s)", found.Rejection.Reason)
		}
		fmt.Println()
	}
}
