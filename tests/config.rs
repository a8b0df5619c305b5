//! proxy.toml: the documented file is valid and says the defaults, and a broken one is told every fault at once.

mod config {
    mod command;
    mod defaults;
    mod differences;
    mod environment;
    mod faults;
    mod fleet;
    mod people;
    mod schema;
    mod signals;
}
