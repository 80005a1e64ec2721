use std::io::{Read, Write};
fn main() {
    std::thread::Builder::new()
        .stack_size(1 << 29)
        .spawn(|| {
            let mut b = vec![];
            std::io::stdin().read_to_end(&mut b).unwrap();
            match cim_gateway::wire::decode(&b, 10000) {
                Err(e) => {
                    eprintln!("{e}");
                    std::process::exit(1)
                }
                Ok(d) if !d.violations.is_empty() => {
                    for v in d.violations.as_slice() {
                        eprintln!("{v}")
                    }
                    std::process::exit(1)
                }
                Ok(d) => std::io::stdout().write_all(&cim_gateway::wire::encode(&d.message)).unwrap(),
            }
        })
        .unwrap()
        .join()
        .unwrap();
}
