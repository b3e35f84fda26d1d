package verdict

// Observation is what a source said at one moment.
type Observation struct {
	// Fault, if not nil, says why nothing was observed. Then there is nothing else.
	Fault *Fault
	// Version, if not empty, is another whenever the Readings are.
	Version string
	// Readings are what the source said of each store: JSON values as apimachinery decodes them, with whole
	// numbers as int64.
	Readings []Reading
}

// Reading is what a source said of one store.
type Reading struct {
	// Value is the JSON value that expressions see as self.
	Value any
	// Version, if not empty, is another whenever the Value is.
	Version string
	// Fault, if not nil, says why the value must not be judged. It still tells which store it is about.
	Fault *Fault
}
