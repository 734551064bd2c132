"""The products of x and h with the weights, whatever the bits that both have: see `kernels.cpu.product`."""

from numba.extending import intrinsic

from numbalstm.kernels.cpu.amx import GROUP_BYTES, amx_panel, configure, release
from numbalstm.kernels.cpu.narrow import narrow_row, quantise_row, round_row
from numbalstm.kernels.cpu.panel import panel, single_row, steps_of, weight_row_size
from numbalstm.kernels.cpu.product import product_of
from numbalstm.kernels.cpu.subnormals import flush_subnormals, restore_mode
from numbalstm.kernels.linked import linked, overload
from numbalstm.kernels.memory import item_size, lane_count
from numbalstm.kernels.simd import TileType


def prepare_x(tile, job, rows):
    """Make the packed inputs ready for `project` and `project_pair`."""


def prepare_h(tile, job, h, rows):
    """Make the states ready for `recur` and `recur_pair`."""


# ---- where the operands are


@linked
def _sum_row(tile):
    """Bytes of a row of sums."""
    return 4 * lane_count(tile) * item_size(tile)


def _tile_bytes(tile, k):
    """Bytes of a tile's weights of depth k."""


@overload(_tile_bytes)
def _tile_bytes_of(tile, k):
    whole = product_of(tile).whole
    return lambda tile, k: (steps_of(tile, k) + whole - 1) // whole * whole * weight_row_size(tile)


@linked
def _columns(tile, columns, n):
    """The columns of a tile."""
    return columns + n * 8 * lane_count(tile) * item_size(tile)


def _x(tile, job):
    """Address of the left operands of `project`, and bytes from one row to the next."""


def _h(tile, job, h):
    """Address of the left operands of `recur`, and bytes from one row to the next."""


def _size(tile):
    """Bytes of an element of the left operands where they are narrow, else 0."""
    product = product_of(tile)
    return product.left_item // product.depth if product.depth > 1 else 0


@overload(_x)
def _x_of(tile, job):
    size = _size(tile)
    if size:
        return lambda tile, job: (job.x_high, narrow_row(size, job.features))
    return lambda tile, job: (job.packed_x, job.features * item_size(tile))


@overload(_h)
def _h_of(tile, job, h):
    size = _size(tile)
    if size:
        return lambda tile, job, h: (job.h_narrow, narrow_row(size, job.outputs))
    return lambda tile, job, h: (h, job.h_row)


# ---- making them ready


@overload(prepare_x)
def _prepare_x(tile, job, rows):
    size = _size(tile)

    def quantise(tile, job, rows):
        if job.kernel_columns == 0:
            return
        stride = narrow_row(size, job.features)
        for r in range(rows):
            source = job.packed_x + r * job.features * item_size(tile)
            high, low = job.x_high + r * stride, job.x_low + r * stride
            quantise_row(tile, source, job.features, high, job.x_high_scales + 4 * r, low, job.x_low_scales + 4 * r)

    def round_rows(tile, job, rows):
        for r in range(rows):
            source = job.packed_x + r * job.features * item_size(tile)
            round_row(tile, source, job.features, job.x_high + r * narrow_row(size, job.features))

    return {0: lambda tile, job, rows: None, 1: quantise, 2: round_rows}[size]


@overload(prepare_h)
def _prepare_h(tile, job, h, rows):
    size = _size(tile)

    def quantise(tile, job, h, rows):
        stride = narrow_row(size, job.outputs)
        for r in range(rows):
            source = h + r * job.h_row
            quantise_row(tile, source, job.outputs, job.h_narrow + r * stride, job.h_scales + 4 * r, 0, 0)

    def round_rows(tile, job, h, rows):
        for r in range(rows):
            round_row(tile, h + r * job.h_row, job.outputs, job.h_narrow + r * narrow_row(size, job.outputs))

    return {0: lambda tile, job, h, rows: None, 1: quantise, 2: round_rows}[size]


# ---- multiplying


@linked
def _on_vectors(tile, rows, a, lda, w, k, z, tile_z, columns, scales):
    if tile_z != 0:
        single_row(tile, a, w, _tile_bytes(tile, k), steps_of(tile, k), z, tile_z, columns, scales)
    else:
        panel(tile, rows, a, lda, w, k, z, _sum_row(tile), columns, scales)


@linked
def _on_amx(tile, rows, a, lda, w, k, z, tile_z, columns, scales):
    amx_panel(tile, rows, a, lda, w, _tile_bytes(tile, k) // GROUP_BYTES, z, _sum_row(tile), columns, scales)


def _multiply(tile, rows, a, lda, w, k, z, tile_z, columns, scales):
    """z[r] += a[r, :k] @ w for one tile or, where tile_z is not 0, one row for two tiles."""


@overload(_multiply)
def _multiply_of(tile, rows, a, lda, w, k, z, tile_z, columns, scales):
    few = product_of(tile).few

    def on_either(tile, rows, a, lda, w, k, z, tile_z, columns, scales):
        if rows < few:
            _on_vectors(tile, rows, a, lda, w, k, z, tile_z, columns, scales)
        else:
            _on_amx(tile, rows, a, lda, w, k, z, tile_z, columns, scales)

    if few is None:
        return _on_vectors.py_func
    return on_either if few > 0 else _on_amx.py_func


@intrinsic
def _exact(typingctx, tile):
    """The tile for weights of the element type."""
    exact = TileType(tile.dtype, tile.lanes, tile.rows, tile.any_activation, "native", tile.tape, tile.dropout)
    return exact(tile), lambda context, builder, sig, args: context.get_dummy_value()


def _project(tile, job, n, z, tile_z, first, rows):
    """As `project` or, where tile_z is not 0, `project_pair`."""


@overload(_project)
def _project_of(tile, job, n, z, tile_z, first, rows):
    def once(tile, job, n, z, tile_z, first, rows):
        w, columns = job.kernel + n * _tile_bytes(tile, job.features), _columns(tile, job.kernel_columns, n)
        a, lda = _x(tile, job)
        scales = job.x_high_scales + 4 * first
        _multiply(tile, rows, a + first * lda, lda, w, job.features, z, tile_z, columns, scales)

    def twice(tile, job, n, z, tile_z, first, rows):
        w, columns = job.kernel + n * _tile_bytes(tile, job.features), _columns(tile, job.kernel_columns, n)
        a, lda = _x(tile, job)
        for a, scales in ((job.x_high, job.x_high_scales), (job.x_low, job.x_low_scales)):
            _multiply(tile, rows, a + first * lda, lda, w, job.features, z, tile_z, columns, scales + 4 * first)

    wanted = twice if _size(tile) == 1 else once
    if not product_of(tile).scaled:
        return wanted
    narrow = linked(wanted)

    def scaled(tile, job, n, z, tile_z, first, rows):
        if job.kernel_columns == 0:  # a kernel too small to be worth fewer bits
            _project(_exact(tile), job, n, z, tile_z, first, rows)
        else:
            narrow(tile, job, n, z, tile_z, first, rows)

    return scaled


@linked
def _recur(tile, job, n, h, z, tile_z, first, rows):
    """As `recur` or, where tile_z is not 0, `recur_pair`."""
    w, columns = job.recurrent_kernel + n * _tile_bytes(tile, job.outputs), _columns(tile, job.recurrent_columns, n)
    a, lda = _h(tile, job, h)
    _multiply(tile, rows, a + first * lda, lda, w, job.outputs, z, tile_z, columns, job.h_scales + 4 * first)


@linked
def project(tile, job, n, z, first, rows):
    """F1's product for one tile and the packed inputs from `first` on."""
    _project(tile, job, n, z, 0, first, rows)


@linked
def project_pair(tile, job, n, z, tile_z):
    """F1's product of one row for two tiles."""
    _project(tile, job, n, z, tile_z, 0, 1)


@linked
def recur(tile, job, n, h, z, first, rows):
    """F2 for one tile and the rows from `first` on."""
    _recur(tile, job, n, h, z, 0, first, rows)


@linked
def recur_pair(tile, job, n, h, z, tile_z):
    """F2 of one row for two tiles."""
    _recur(tile, job, n, h, z, tile_z, 0, 1)


def pairs_tiles(tile):
    """Whether one row is multiplied with two tiles at once."""


@overload(pairs_tiles)
def _pairs_tiles(tile):
    pairs = product_of(tile).few != 0
    return lambda tile: pairs


# ---- the thread


def begin_products(tile, job):
    """Set the thread up for products; returns what `end_products` wants back."""


def end_products(tile, mode):
    """Give back what was set up, once the last product is done."""


@overload(begin_products)
def _begin_products(tile, job):
    def with_amx(tile, job):
        configure(job.registers)
        return flush_subnormals()

    return (lambda tile, job: flush_subnormals()) if product_of(tile).few is None else with_amx


@overload(end_products)
def _end_products(tile, mode):
    def with_amx(tile, mode):
        restore_mode(mode)
        release()

    return (lambda tile, mode: restore_mode(mode)) if product_of(tile).few is None else with_amx
