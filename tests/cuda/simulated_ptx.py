"""What a kernel in the simulator sees as `numbalstm.kernels.cuda.ptx`: every helper of that module, in Python."""

import numpy as np
from warp_simulator import Pointer, spinning

f32 = np.float32
LANES = np.arange(32)
GROUP, QUAD = LANES >> 2, LANES & 3


def bits(value):
    return int(f32(value).view(np.uint32))


def to_bfloat16(value):
    """Return the upper 16 bits of a float32 rounded to nearest even, as an int."""
    u = bits(value)
    return u >> 16 if not np.isfinite(f32(value)) else (u + 0x7FFF + ((u >> 16) & 1)) >> 16 & 0xFFFF


class MemoryBarrier:
    """An mbarrier: arrivals and bytes that a phase still waits for."""

    def __init__(self, count):
        self.count, self.pending, self.bytes, self.phase = count, count, 0, 0

    def check(self):
        if self.pending == 0 and self.bytes == 0:
            self.phase ^= 1
            self.pending = self.count


class SimulatedPtx:
    def __init__(self, simulator):
        self._s, self._starts = simulator, {}

    # ---- arithmetic

    def ex2_approx(self, x):
        return f32(2.0) ** f32(x)

    def rcp_approx(self, x):
        return f32(1.0) / f32(x)

    def float_bits(self, x):
        return np.uint32(bits(x))

    def cvt_tf32(self, x):
        return np.uint32((bits(x) + 0x1000) & 0xFFFFE000)

    def cvt_bf16x2(self, high, low):
        return np.uint32(to_bfloat16(high) << 16 | to_bfloat16(low))

    # ---- addresses and plain memory

    def address(self, memory, index):
        return Pointer(memory.array, memory.offset + int(index))

    def shared_address(self, array, index):
        return Pointer(array.whole, index, array.block, array.key)

    def _aligned(self, pointer):
        if pointer.block is None:
            start, alignment = self._starts.get(id(pointer.array)), 16
            if start is None:  # a launch keeps its arrays
                start = self._starts[id(pointer.array)] = pointer.array.__array_interface__["data"][0]
        else:
            start, alignment = 0, pointer.block.alignment[pointer.key]
        if (start + pointer.index * pointer.array.itemsize) % 16 or alignment % 16:
            raise ValueError(f"16-byte access to element {pointer.index} of an array that is not aligned for it")

    def _four(self, pointer):
        self._aligned(pointer)
        return tuple(pointer.array.reshape(-1)[pointer.index : pointer.index + 4])

    def ld_v4(self, pointer):
        return self._four(pointer)

    ld_nc_v4 = ld_nc_v4u = lds_v4 = lds_v4u = ld_v4

    def st_v4(self, pointer, *values):
        self._aligned(pointer)
        for i, value in enumerate(values):
            pointer.array.flat[pointer.index + i] = value
        self._s.progress += 1

    sts_v4 = st_v4

    # ---- asynchronous copies: each lands when its thread waits for it, as late as the program allows

    def cp_async16(self, target, source, size):
        self._aligned(target)
        if size:
            self._aligned(source)
        self._s.me.copies.append((target, source, int(size) // 4, 4))

    def cp_async4(self, target, source, size):
        self._s.me.copies.append((target, source, int(size) // 4, 1))

    def cp_async_commit(self):
        me = self._s.me
        me.groups.append(me.copies)
        me.copies = []

    def cp_async_wait0(self, newest=0):
        groups = self._s.me.groups
        while len(groups) > newest:
            for target, source, count, words in groups.pop(0):
                to, start, there = target.array.reshape(-1), target.index, source.index
                to[start : start + count] = source.array.reshape(-1)[there : there + count]
                to[start + count : start + words] = 0
        self._s.progress += 1

    def cp_async_wait2(self):
        self.cp_async_wait0(2)

    # ---- tensor cores: the fragment layouts of mma.sync.m16n8k8 (tf32) and m16n8k16 (bf16)

    def mma_tf32(self, *values):
        return self._mma(values, self._tf32_operands)

    def mma_bf16(self, *values):
        return self._mma(values, self._bf16_operands)

    def _mma(self, values, operands):
        shared = self._s.cuda.warp(values)
        if "product" not in shared:  # the first lane to go on computes for the warp
            words = np.array([[int(v) for v in shared["lanes"][lane][:6]] for lane in LANES], np.uint32)
            sums = np.array([shared["lanes"][lane][6:] for lane in LANES], f32)
            c = np.zeros((16, 8), f32)
            for i in range(4):
                c[GROUP + 8 * (i >> 1), 2 * QUAD + (i & 1)] = sums[:, i]
            a, b = operands(words[:, :4], words[:, 4:])
            shared["product"] = a @ b + c
        d, lane = shared["product"], self._s.me.lane
        g, q = lane >> 2, lane & 3
        return d[g, 2 * q], d[g, 2 * q + 1], d[g + 8, 2 * q], d[g + 8, 2 * q + 1]

    @staticmethod
    def _tf32_operands(a_words, b_words):
        a, b = np.zeros((16, 8), f32), np.zeros((8, 8), f32)
        for i in range(4):
            a[GROUP + 8 * (i & 1), QUAD + 4 * (i >> 1)] = np.ascontiguousarray(a_words[:, i]).view(f32)
        for i in range(2):
            b[QUAD + 4 * i, GROUP] = np.ascontiguousarray(b_words[:, i]).view(f32)
        return a, b

    @staticmethod
    def _bf16_operands(a_words, b_words):
        a, b = np.zeros((16, 16), f32), np.zeros((16, 8), f32)
        for half, mask, shift in ((0, 0x0000FFFF, 16), (1, 0xFFFF0000, 0)):
            for i in range(4):
                values = ((a_words[:, i] & np.uint32(mask)) << np.uint32(shift)).view(f32)
                a[GROUP + 8 * (i & 1), 2 * QUAD + half + 8 * (i >> 1)] = values
            for i in range(2):
                b[2 * QUAD + half + 8 * i, GROUP] = ((b_words[:, i] & np.uint32(mask)) << np.uint32(shift)).view(f32)
        return a, b

    # ---- words of a value and a step, the value in the lower half

    def st_tagged(self, pointer, value, tag):
        pointer.array[pointer.index] = np.uint64(int(tag) << 32 | bits(value))
        self._s.visible()

    def ld_tagged(self, pointer):
        return self._polled(pointer, 1)[0]

    def ld_tagged2(self, pointer):
        self._aligned(pointer)
        return self._polled(pointer, 2)

    def _polled(self, pointer, count):
        """Return words; a thread that has just read the same in vain sleeps until they change."""
        me, start = self._s.me, pointer.index
        words = pointer.array[start : start + count]
        if me.polled is not None and me.polled[0] == start and (me.polled[1] == words).all():
            before = me.polled[1]
            self._s.wait(lambda: (words != before).any())
        else:
            self._s.wait(spinning)
        me.polled = (start, words.copy())
        return tuple(me.polled[1])

    def tag_value(self, word):
        return np.uint32(int(word) & 0xFFFFFFFF).view(f32)

    def tag_step(self, word):
        return np.uint32(int(word) >> 32)

    # ---- counters

    def add_release(self, pointer, value):
        pointer.array[pointer.index] += value
        self._s.visible()

    def ld_acquire(self, pointer):
        return self._polled(pointer, 1)[0]

    # ---- clusters

    def cluster_rank(self):
        return np.uint32(self._s.me.block.cluster_rank)

    def cluster_arrive(self):
        pass

    def cluster_wait(self):
        s = self._s
        s.meet(("cluster", s.me.block.index // s.cluster), s.cluster * s.threads)

    def mapa(self, pointer, rank):
        s = self._s
        block = s.blocks[s.me.block.index // s.cluster * s.cluster + int(rank)]
        return Pointer(block.shared[pointer.key].view(pointer.array.dtype), pointer.index, block, pointer.key)

    def mbar_init(self, pointer, count):
        pointer.block.barriers[pointer.key, pointer.index] = MemoryBarrier(int(count))

    def mbar_expect(self, pointer, size):
        barrier = pointer.block.barriers[pointer.key, pointer.index]
        barrier.bytes += int(size)
        barrier.pending -= 1
        barrier.check()
        self._s.progress += 1

    def mbar_try_wait(self, pointer, parity):
        barrier = pointer.block.barriers[pointer.key, pointer.index]
        if barrier.phase == int(parity):
            self._s.wait(lambda: barrier.phase != int(parity))
        return np.uint32(1)

    def st_async(self, pointer, value, barrier_pointer):
        pointer.array.view(np.uint32)[pointer.index] = value
        barrier = barrier_pointer.block.barriers[barrier_pointer.key, barrier_pointer.index]
        barrier.bytes -= 4
        barrier.check()
        self._s.visible()
