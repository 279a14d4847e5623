//! The bare echo that a wake-up is compared with: a glommio executor, one task, a plain stream.

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::TcpListener;
use glommio::{LocalExecutorBuilder, Placement};

/// Serve one connection after another on a port of the kernel's choice, until the process ends. The word is the
/// processor.
pub(crate) fn echo(words: &[String]) {
    let placement = Placement::Fixed(words[0].parse().unwrap());
    let executor = LocalExecutorBuilder::new(placement)
        .io_memory(64 << 10)
        .make()
        .unwrap();
    executor.run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        println!("{}", listener.local_addr().unwrap());
        loop {
            let mut stream = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut block = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut block).await {
                stream.write_all(&block[..count]).await.unwrap();
            }
        }
    });
}
