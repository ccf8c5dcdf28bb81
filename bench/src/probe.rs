//! What the machine can do at this moment: printed beside every figure.

use std::{
    fs::File,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    time::Instant,
};

use anyhow::Result;

use crate::report::Spread;

/// 50 × write 4 KiB and fdatasync in `folder`, in milliseconds.
pub(crate) fn fsync(folder: &Path) -> Result<Spread> {
    let mut file = File::create(folder.join("probe"))?;
    let mut times = Vec::new();
    for _ in 0..50 {
        let start = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    std::fs::remove_file(folder.join("probe"))?;
    Ok(Spread::of(times))
}

/// 200 × one byte there and back over loopback, in milliseconds.
pub(crate) fn echo() -> Result<Spread> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut byte = [0];
        while stream.read(&mut byte)? == 1 {
            stream.write_all(&byte)?;
        }
        Ok(())
    });
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut times = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        stream.write_all(&[1])?;
        stream.read_exact(&mut [0])?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    drop(stream);
    let _ = server.join();
    Ok(Spread::of(times))
}
