//! Services against relays, directories and visitors that are written here with the production
//! messages and keys; the clock is the test's.

mod chaos;
mod hosting;
mod introducing;
mod publishing;
mod world;
