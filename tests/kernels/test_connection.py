"""The sockets between AutoFlow and a kernel."""

import asyncio
import time

import zmq
import zmq.asyncio
from jupyter_client.session import Session

from autoflow.kernels.connection import BoundedChannel


def test_message_that_arrives_while_another_is_sent_is_received() -> None:
    session = Session(key=b"key")

    async def arrived() -> str:
        kernel, socket = context.socket(zmq.ROUTER), asynchronous.socket(zmq.DEALER)
        port = kernel.bind_to_random_port("tcp://127.0.0.1")
        socket.connect(f"tcp://127.0.0.1:{port}")
        channel = BoundedChannel(socket, session)
        channel.send(session.msg("comm_msg"))
        identity = kernel.recv_multipart()[0]
        waiting = asyncio.ensure_future(channel.get_msg())
        await asyncio.sleep(0.1)
        kernel.send_multipart([identity, *session.serialize(session.msg("execute_reply"))])
        time.sleep(0.3)  # noqa: ASYNC251 - it arrives while nobody looks
        channel.send(session.msg("comm_msg"))
        try:
            return str((await asyncio.wait_for(waiting, 10))["msg_type"])
        finally:
            kernel.close()
            socket.close()

    with zmq.Context() as context, zmq.asyncio.Context() as asynchronous:
        assert asyncio.run(arrived()) == "execute_reply"
